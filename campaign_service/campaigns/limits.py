"""How large what a campaign says may be, written and rendered."""

from herald_rpc.wire.budget import MAX_RECORD_BYTES

# Unicode characters
MAX_TEXT = 20_000

# Unicode characters of a campaign's name: page tokens hold it, where campaigns are sorted by it
MAX_NAME = 5_000

# as compact JSON, all attachments of a message together
MAX_ATTACHMENTS_BYTES = 64 * 1024

# objects and lists inside one another, the outermost being the first: inside an event, a message
# of this depth is still one that gRPC's readers take
MAX_JSON_DEPTH = 20

# all that a caller writes, as a message
MAX_CAMPAIGN_BYTES = MAX_RECORD_BYTES
