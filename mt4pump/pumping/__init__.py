"""The pump thread: from the inbox through the desks to the publisher, and the state that it keeps meanwhile."""
