"""What `bifpn WORD` runs, one file each."""
