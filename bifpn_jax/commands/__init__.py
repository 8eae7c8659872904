"""The commands `bifpn WORD`, one file each."""
