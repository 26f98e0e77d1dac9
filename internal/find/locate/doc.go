// Package locate finds a function, a variable or errno in a running process:
// the place a guard names, with the evidence for it.
//
// A process is a set of images: its executable and every library it maps,
// each opened through the process itself (package proc), so that what is read
// is the mapped inode, in whatever mount namespace, deleted or replaced since.
// An image's bias comes from its executable mapping and the segment that maps
// that part of the file. Names are looked up in the image's own tables; a
// process cannot be asked, as it may be hostile.
//
// Invariants:
//
//   - An executable is what has the same inode, never what has the same name.
//   - One name that means several places is an error that lists them, except
//     where the places are one address.
//   - What a guard at the entry would not see (.isra, .part, .constprop clones,
//     older symbol versions) is listed in Function.Copies, never left out.
//   - Function.Text is the file's; comparing it with memory, and refusing when
//     they differ, is the caller's.
//
// The package reads and never stops or writes; nothing here needs a tracer.
package locate
