"""What runs on a Windows Python under Wine; left out of a plain run, asked for by ``-m wine``."""
