"""GNU make's jobserver protocol: DFM as token server and as client."""
