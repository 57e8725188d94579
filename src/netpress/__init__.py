"""netpress: neural networks in and out of ISO/IEC 15938-17 (NNC) bitstreams."""
