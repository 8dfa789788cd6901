"""What consumers share: decoding, the inbox, claim checks, reasons, sums."""
