"""What every room of livetoon stands on: its errors, its files, its command line.

Imports nothing but the standard library, so that `livetoon --help` answers at once.
"""

__version__ = "0.1.0"
