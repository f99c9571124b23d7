"""`python -m siglip_verify`: the same as `siglip-verify`."""

from siglip_verify.cli import main

if __name__ == "__main__":
    main()
