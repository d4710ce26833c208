"""Where raw records become events: one desk per family of records, all on the pump thread."""
