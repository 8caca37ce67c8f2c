"""`python -m azeros` is `azeros`: launchers of many processes take modules."""

from azeros.cli import app

if __name__ == "__main__":
    app()
