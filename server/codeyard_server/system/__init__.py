"""The installation itself: health, the OpenAPI document, its page."""
