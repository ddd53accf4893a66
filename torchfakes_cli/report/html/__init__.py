"""Reports for people: a page on one video that needs nothing but itself, and an index of many."""
