"""The redirection policy: data, matched against a kernel's functions."""

from __future__ import annotations

import errno

import pytest

from hybridbridge_vol.bridge.text import policy as policies
from hybridbridge_vol.bridge.text.policy import Policy, Rule, load_policy, resolve


def trampolines(rules: list[Rule], functions: list[tuple[int, int, str]]) -> dict[int, str]:
    found = resolve(Policy(tuple(rules), ""), functions)
    return {item.offset: item.action for item in found.trampolines}


def test_compiler_suffixes_do_not_hide_a_function() -> None:
    found = trampolines(
        [Rule("", "home", ("kmalloc",))], [(0, 64, "kmalloc.part.0"), (64, 64, "kmalloc.cold")]
    )
    assert found == {0: "home"}


def test_patterns_match_whole_names() -> None:
    functions = [
        (0, 64, "vmalloc"),
        (64, 64, "vmalloc_user"),
        (128, 64, "vmalloc_nr_pages"),
        (192, 64, "__vmalloc"),
    ]
    rules = [Rule("", "home", ("vmalloc", "vmalloc_(user|node)"))]
    assert trampolines(rules, functions) == {0: "home", 64: "home"}


def test_every_function_of_a_name_gets_the_trampoline() -> None:
    assert trampolines([Rule("", "home", ("dup",))], [(0, 64, "dup"), (64, 64, "dup")]) == {
        0: "home",
        64: "home",
    }


def test_later_rules_count_and_twin_removes_a_trampoline() -> None:
    functions = [(0, 64, "simple_read"), (64, 64, "simple_strtoul")]
    rules = [
        Rule("", "home", ("simple_.*",)),
        Rule("", "twin", ("simple_strto.*",)),
        Rule("", "return", ("simple_read",)),
    ]
    assert trampolines(rules, functions) == {0: "return"}


def test_a_function_too_small_for_a_trampoline_keeps_its_code() -> None:
    assert trampolines([Rule("", "home", ("tiny",))], [(0, 4, "tiny")]) == {}
    assert trampolines([Rule("", "return", ("tiny",))], [(0, 4, "tiny")]) == {0: "return"}


def test_patterns_that_match_nothing_are_listed() -> None:
    assert resolve(Policy((Rule("", "home", ("nothing", "no.*")),), ""), [(0, 64, "some")]).unmatched == [
        "nothing",
        "no.*",
    ]


def test_the_shipped_policy_is_well_formed() -> None:
    policy = load_policy()
    assert len(policy.rules) > 20
    assert all(rule.names for rule in policy.rules)


WHO_HAS_A_TARGET = "a target goes with 'jump' or 'lock' or 'allocate' or 'release', in a rule of 'locks'"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": "leap"}, "unknown action 'leap' in a rule of 'locks'"),
        (
            {"action": "jump"},
            WHO_HAS_A_TARGET,
        ),
        (
            {"target": "mutex_trylock"},
            WHO_HAS_A_TARGET,
        ),
        ({"side": "home"}, "unknown side 'home' in a rule of 'locks'"),
        ({"tursted": [0]}, "unknown key 'tursted' in a rule of 'locks'"),
    ],
)
def test_a_rule_that_is_misspelt_is_not_passed_over(change: dict[str, object], message: str) -> None:
    rule = {"subsystem": "locks", "action": "home", "names": ["mutex_lock"]}
    assert policies._rule(rule).action == "home"
    with pytest.raises(ValueError, match=message):
        policies._rule(rule | change)


def test_a_lock_that_is_tried_is_taken_by_another_function() -> None:
    functions = [(0, 64, "mutex_lock"), (64, 64, "mutex_trylock"), (128, 64, "down_trylock")]
    rules = [
        Rule("", "lock", ("mutex_trylock",), value=1, target="mutex_lock"),
        Rule("", "lock", ("down_trylock",), target="down"),
    ]
    (found,) = resolve(Policy(tuple(rules), ""), functions).trampolines  # this kernel has no `down`
    assert (found.offset, found.action, found.value, found.target) == (64, "lock", 1, 0)


@pytest.mark.parametrize(
    ("names", "target"),
    [
        (("mutex_lock", "mutex_trylock", "mutex_unlock"), "mutex_lock"),
        (("mutex_lock_nested", "mutex_trylock", "mutex_unlock"), "mutex_trylock"),
    ],
)
def test_a_mutex_is_taken_also_where_locks_are_checked(names: tuple[str, ...], target: str) -> None:
    """There is no mutex_lock with CONFIG_DEBUG_LOCK_ALLOC."""
    places = {name: 64 * number for number, name in enumerate(names)}
    resolution = resolve(load_policy(), [(place, 64, name) for name, place in places.items()])
    found = {item.offset: item for item in resolution.trampolines}
    tried = found[places["mutex_trylock"]]
    assert (tried.action, tried.value, tried.target) == ("lock", 1, places[target])
    if "mutex_lock_nested" in names:
        nested = found[places["mutex_lock_nested"]]
        assert (nested.action, nested.value, nested.target) == ("lock", 0, places[target])


def test_lockdep_says_neither_that_a_lock_is_held_nor_that_it_is_not() -> None:
    """lock_is_held_type: LOCK_STATE_UNKNOWN is -1 (include/linux/lockdep.h)."""
    functions = [(0, 64, "lock_acquire"), (64, 64, "lock_is_held_type"), (128, 64, "debug_object_init")]
    found = resolve(load_policy(), functions).trampolines
    assert [(item.action, item.value, item.both_sides) for item in found] == [
        ("return", 0, True),
        ("return", -1, True),
        ("return", 0, True),
    ]


def test_a_file_system_is_asked_for_security_attributes() -> None:
    """vfs_getxattr goes on to the file system where no module answers, which is -EOPNOTSUPP (fs/xattr.c)."""
    functions = [(0, 64, "security_inode_getsecurity"), (64, 64, "security_inode_getxattr")]
    found = resolve(load_policy(), functions).trampolines
    assert [(item.action, item.value) for item in found] == [("return", -errno.EOPNOTSUPP), ("return", 0)]
