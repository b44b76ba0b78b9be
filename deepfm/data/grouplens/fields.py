"""The fields of MovieLens, which building data sets and scoring raw rows share."""

ZIP_PREFIX_LENGTH = 3
MAX_GENRES = 6
USER_FIELDS = {
    "user_id": 16,
    "gender": 4,
    "age": 4,
    "occupation": 8,
    "zip_prefix": 8,
}  # name → embedding width
ITEM_FIELDS = {"movie_id": 16, "genres": 8}
HISTORY = "history"  # the movies that a user liked before
SAMPLE_TITLE = "Sample Movie "  # how every title of the generated sample begins
