"""What was asked and how far it got: records, the ledger, the queue. No audio, no torch."""
