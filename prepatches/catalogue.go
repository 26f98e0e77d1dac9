// Package prepatches holds the catalogue: one folder PRODUCT/CVE for each
// prepatch, with its source, its test, the fingerprints it names and what it guards
// against.
package prepatches

import "embed"

// Files is the catalogue as pie embeds it.
//
//go:embed */*/*.go */*/README.md */*/*.pf
var Files embed.FS
