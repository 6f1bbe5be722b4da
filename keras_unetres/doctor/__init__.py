"""What is wrong with a data set: findings with their figures, and the declaration that mends them."""
