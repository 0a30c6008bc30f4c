"""The text that a bridge runs: rebased code, trampolines, redirection policy, code patched at boot."""
