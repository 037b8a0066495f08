"""Limits of a campaign's texts and JSON, as written and as rendered."""

from herald_rpc.wire.budget import MAX_RECORD_BYTES

# Unicode characters
MAX_TEXT = 20_000

# Unicode characters of a campaign's name, which page tokens contain if campaigns are sorted by it
MAX_NAME = 5_000

# all attachments of a message together, as compact JSON
MAX_ATTACHMENTS_BYTES = 64 * 1024

# nested objects and lists, the outermost being the first: protobuf parsers still accept a message
# of this depth inside an event
MAX_JSON_DEPTH = 20

# all that a caller writes, as a protobuf message
MAX_CAMPAIGN_BYTES = MAX_RECORD_BYTES
