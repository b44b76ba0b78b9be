"""Which stocks will do best: panels of prices, features without look-ahead, and a network that ranks a day's stocks."""
