package binfile

// File is an open ELF file.
type File struct{}
