"""``python -m mldr_deploy`` is the ``mldr-deploy`` command."""

from .cli import main

if __name__ == "__main__":
    main()
