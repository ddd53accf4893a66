"""``python -m torchfakes_cli`` is the same as ``torchfakes``."""

from torchfakes_cli.cli import main

if __name__ == "__main__":
    main()
