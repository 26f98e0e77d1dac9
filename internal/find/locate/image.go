package locate

import (
	"errors"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Image is an ELF file mapped into a process for execution.
type Image struct {
	// Path is for people, as the process's own namespace names the file.
	Path   string
	SOName string
	IsExe  bool
	// Deleted is set when the file has no name any more.
	Deleted bool
	File    *binfile.File
	Bias    address.Bias
	// Mappings are the process's mappings of this file under this bias.
	Mappings []proc.Mapping
}

var errStub = errors.New("not built yet")

// Images returns the executable, first, and every library of a process.
func Images(p Target) ([]Image, error) { return nil, errStub }

// Find finds the function a query names. Several are returned only where all
// of them have to be guarded: the same library mapped more than once.
func Find(p Target, q Query) ([]Function, error) { return nil, errStub }
