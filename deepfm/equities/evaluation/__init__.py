"""How good a ranking of stocks is: daily correlations, portfolios with costs, differences with their errors."""
