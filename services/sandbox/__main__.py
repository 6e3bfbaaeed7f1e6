"""`python -m services.sandbox`."""

from services.sandbox.app import main

if __name__ == "__main__":
    main()
