package binfile

// GoTable is .gopclntab.
type GoTable struct{}

func (f *File) readGoTable() (*GoTable, error) { return nil, ErrNoTable }
