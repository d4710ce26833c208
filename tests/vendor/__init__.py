"""A stand-in for the vendor's library: C sources, their compiler and their controls."""
