"""How the page looks and what little it does: sorting, and opening all images for print. It works without the
script."""

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1d232b;--dim:#5b6673;--line:#d9dee4;--soft:#f4f6f8;--link:#0b57a8;
--first:#b3261e;--then:#8a5a00;--note:#4a6076;--c1:#2f6fb2;--c2:#d0812a;--c3:#7a4fa3;--c0:#d5dbe2;--grave:#c62828}
@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e3e8ee;--dim:#98a4b1;--line:#313943;--soft:#1c2229;--link:#7db7f5;
--first:#ff8a80;--then:#f0b94d;--note:#9db4cb;--c1:#5b9ee6;--c2:#e39b4b;--c3:#b08ad8;--c0:#39424d;--grave:#ff6b60}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:1rem 1.25rem 3rem;background:var(--bg);color:var(--fg);font:15px/1.45 system-ui,sans-serif}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem;padding-top:.5rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.1rem 0 .2rem}p{margin:.3rem 0;max-width:75ch}a{color:var(--link)}
.hint{color:var(--dim);font-size:.87rem}.wide{overflow-x:auto;margin:.4rem 0}
code,td.raw{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.84rem}
table{border-collapse:collapse;font-size:.9rem}th,td{text-align:left;padding:.22rem .6rem .22rem 0;vertical-align:top;border-bottom:1px solid var(--line)}
th{color:var(--dim);font-weight:600;white-space:nowrap}td.num,th.num{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.raw{overflow-wrap:anywhere;min-width:4ch;white-space:pre-wrap;unicode-bidi:isolate}td.name{min-width:13rem;overflow-wrap:anywhere}
td.when,td.key{white-space:nowrap}td.words{min-width:16rem}
th button{all:unset;cursor:pointer}th button:hover,th button:focus-visible{text-decoration:underline}
th[aria-sort=ascending] button::after{content:" \\2191"}th[aria-sort=descending] button::after{content:" \\2193"}
.w{display:inline-block;font-size:.75rem;font-weight:600;padding:.02rem .4rem;border:1px solid;border-radius:.6rem;white-space:nowrap}
.w0{color:var(--first)}.w1{color:var(--then)}.w2{color:var(--note)}.bad{color:var(--first)}
.cards{display:flex;flex-wrap:wrap;gap:.6rem;margin:.8rem 0;padding:0;list-style:none}
.cards li{background:var(--soft);border:1px solid var(--line);border-radius:.5rem;padding:.4rem .8rem}.cards b{font-size:1.25rem;display:block}
details.image{border:1px solid var(--line);border-radius:.5rem;margin:.6rem 0;padding:.3rem .8rem}
details.image[open]{padding-bottom:.8rem}details.image>summary{cursor:pointer;overflow-wrap:anywhere;padding:.2rem 0}
summary b{margin-right:.5rem}summary .w{margin-right:.3rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem .9rem;margin:.5rem 0}dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
svg.timeline{width:100%;min-width:640px;max-width:1000px;height:auto}p.key{max-width:none}svg text{font-size:11px;fill:var(--dim)}svg .strong{fill:var(--fg);font-weight:600}
.base,.tick{stroke:var(--line);fill:none}.edge{stroke:var(--fg);fill:none}
.user,.usr,.used,.count{fill:var(--c1)}.thread,.cache,.sys{fill:var(--c2)}.log,.wait{fill:var(--c3)}.grave{fill:var(--grave)}.free,.idle{fill:var(--c0)}
svg.bar{width:5.5rem;height:.7rem;vertical-align:middle;background:var(--soft);border-radius:2px}
.n{display:inline-block;min-width:2.2rem;text-align:right;margin-left:.4rem;font-variant-numeric:tabular-nums;font-size:.84rem}
.key i{display:inline-block;width:.8rem;height:.7rem;margin:0 .3rem 0 .8rem;vertical-align:baseline}
i.used,i.usr{background:var(--c1)}i.cache,i.sys{background:var(--c2)}i.wait{background:var(--c3)}i.free,i.idle{background:var(--c0)}i.log{background:var(--c3)}i.grave{background:var(--grave)}
@media(max-width:600px){body{padding:.6rem .6rem 2rem;font-size:14px}dl{grid-template-columns:1fr}dt{margin-top:.3rem}svg.bar{width:5rem}
td.name{min-width:9rem}.cards li{flex:1 1 6.5rem}}
@media print{body{max-width:none;font-size:10pt;padding:0}.wide{overflow:visible}details.image{break-inside:auto}h3,tr{break-inside:avoid}
details.image::details-content{content-visibility:visible;block-size:auto}a{color:inherit;text-decoration:none}}
"""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const number = head.classList.contains("num");
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = number ? x - y : x < y ? -1 : x > y ? 1 : 0;
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
}
const reach = () => {
  const wanted = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (wanted && wanted.tagName === "DETAILS") { wanted.open = true; wanted.scrollIntoView(); }
};
addEventListener("hashchange", reach);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(one => { one.open = true; }));
reach();
"""
