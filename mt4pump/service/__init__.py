"""The daemon and its consumers as Windows services, run by NSSM (https://nssm.cc), version 2.24 or later."""
