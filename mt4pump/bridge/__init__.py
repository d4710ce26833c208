"""The vendor's DLL behind ctypes: find and load it, call it, take its callbacks."""
