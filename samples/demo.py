"""What `make demo` prepares: a light sample image, and its kernel in the store of trusted kernels."""

from __future__ import annotations

import sys
from pathlib import Path

from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.progress import Progress
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.make import SampleError, Spec, make_sample


def main() -> int:
    """Make the image, link it to the path given, trust its kernel."""
    link = Path(sys.argv[1])
    try:
        print("making a sample image: an unmodified Debian kernel at work in QEMU", file=sys.stderr)
        sample = make_sample(Spec("6.1-cloud", light=True))
        link.unlink(missing_ok=True)
        link.symlink_to(sample.folder)
        print(f"hb trust add {sample.kernel_package}", file=sys.stderr)
        with Progress() as progress:
            enroll(Store(), sample.kernel_package, progress)
    except (SampleError, HybridBridgeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
