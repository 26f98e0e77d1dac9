package locate

import (
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// maxImages bounds how many files of one process are opened.
const maxImages = 4096

// ErrNoText says that the executable's code is not mapped from its file, as
// after a remap to huge pages: what runs is not what can be read.
var ErrNoText = errors.New("the executable's code is not mapped from its file")

// Image is an ELF file mapped into a process for execution.
type Image struct {
	// Path is for people, as the process's own namespace names the file.
	Path   string
	SOName string
	IsExe  bool
	// Deleted is set when the file seems to have no name any more.
	Deleted bool
	File    *binfile.File
	Bias    address.Bias
	// Mappings are the process's mappings of this file under this bias.
	Mappings []proc.Mapping

	identity Identity
	starts   func() []address.Vaddr
	// separated tells whether debugSyms and debugPath have been looked for.
	separated bool
	debugSyms []binfile.Symbol
	debugPath string
}

// Contains tells whether a lies in one of the image's mappings.
func (im *Image) Contains(a address.Addr) bool {
	return slices.ContainsFunc(im.Mappings, func(m proc.Mapping) bool { return m.Contains(a) })
}

// Identity tells the image's file from every other, and from itself once it is
// changed. It is false for an image that was made without a file.
func (im *Image) Identity() (Identity, bool) { return im.identity, im.identity != Identity{} }

// Name is what messages call the image: its SONAME, else the end of its path.
func (im *Image) Name() string {
	if im.SOName != "" && !im.IsExe {
		return im.SOName
	}
	return path.Base(im.Path)
}

// Set is the images of one process, the executable first.
type Set struct {
	Images []*Image
	// Skipped says which mapped files could not be read as images, and why. A
	// function in one of them is not found.
	Skipped []error

	p    Target
	maps []proc.Mapping
	// own are the files when no other set shares them.
	own *Files
	// separately is set while separate debug files are looked into as well.
	separately bool
	// servers are asked for debug files that the process's root has not; may be nil.
	servers    SymbolServers
	unanswered error // what went wrong with them
}

// Images opens the executable and every library of a process. The executable
// must be readable, and be what the errors of binfile.Open call supported;
// a library that is not is skipped and named in Set.Skipped. The vdso has no
// file and is no image. The caller closes the set when done with it and with
// every Function found in it.
func Images(p Target) (*Set, error) {
	own := NewFiles()
	set, err := own.Images(p)
	if err != nil {
		own.Close()
		return nil, err
	}
	set.own = own
	return set, nil
}

// Images is Images with the files shared between sets; they stay open until
// fs is closed.
func (fs *Files) Images(p Target) (*Set, error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, err
	}
	set := &Set{p: p, maps: maps, servers: fs.Servers}
	groups := byFile(maps)
	exe, err := set.addExe(fs, groups)
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		if group[0].File == exe {
			continue
		}
		if len(set.Images) >= maxImages {
			set.Skipped = append(set.Skipped, fmt.Errorf("more than %d mapped files", maxImages))
			break
		}
		if err := set.addLibrary(fs, group); err != nil {
			set.Skipped = append(set.Skipped, fmt.Errorf("%s: %w", group[0].Path, err))
		}
	}
	return set, nil
}

// Close closes the files of all images, unless they are shared.
func (s *Set) Close() {
	if s.own != nil {
		s.own.Close()
	}
}

// Exe returns the executable. A process that maps its executable's code twice
// has two images with IsExe; this is the first.
func (s *Set) Exe() *Image { return s.Images[0] }

// addExe returns the identity the executable has in maps.
func (s *Set) addExe(fs *Files, groups [][]proc.Mapping) (proc.FileID, error) {
	p := s.p
	file, err := p.OpenExe()
	if err != nil {
		return proc.FileID{}, err
	}
	elf, err := fs.open(file)
	if err != nil {
		return proc.FileID{}, fmt.Errorf("pid %d: its executable: %w", p.Pid(), err)
	}
	for _, group := range groups {
		if !sameFile(p, elf.file, group[0]) {
			continue
		}
		s.Images = place(elf, group)
		for _, im := range s.Images {
			im.IsExe = true
		}
		if len(s.Images) > 0 {
			return group[0].File, nil
		}
	}
	return proc.FileID{}, fmt.Errorf("pid %d: %w", p.Pid(), ErrNoText)
}

// sameFile tells whether a mapping is of the file. Where the device of maps is
// not that of stat (btrfs, overlayfs) the mapped inode itself is looked at.
func sameFile(p Target, file *proc.File, m proc.Mapping) bool {
	if m.File.Inode != file.Inode {
		return false
	}
	if m.File.Major == unix.Major(file.Dev) && m.File.Minor == unix.Minor(file.Dev) {
		return true
	}
	mapped, err := p.OpenMapped(m)
	if err != nil {
		return false
	}
	defer mapped.Close()
	return mapped.Dev == file.Dev && mapped.Inode == file.Inode
}

func (s *Set) addLibrary(fs *Files, group []proc.Mapping) error {
	i := slices.IndexFunc(group, isCode)
	if i < 0 {
		return nil
	}
	file, err := s.p.OpenMapped(group[i])
	if err != nil {
		return err
	}
	elf, err := fs.open(file)
	if err != nil {
		return err
	}
	images := place(elf, group)
	if len(images) == 0 {
		return errors.New("no executable mapping matches a segment of the file")
	}
	s.Images = append(s.Images, images...)
	return nil
}

// place computes under which biases the mappings of one file map its segments.
// Each executable mapping of an executable segment gives one; the same library
// loaded twice gives two images.
func place(opened *elfFile, maps []proc.Mapping) []*Image {
	f := opened.File
	var out []*Image
	for _, m := range maps {
		if !isCode(m) {
			continue
		}
		bias, ok := biasOf(f, m)
		if !ok || slices.ContainsFunc(out, func(im *Image) bool { return im.Bias == bias }) {
			continue
		}
		im := &Image{Path: m.Path, SOName: f.SOName(), Deleted: m.Deleted, File: f, Bias: bias, identity: identityOf(opened.file), starts: opened.starts}
		for _, o := range maps {
			if mapsUnder(f, o, bias) {
				im.Mappings = append(im.Mappings, o)
			}
		}
		out = append(out, im)
	}
	return out
}

// biasOf returns the bias under which an executable mapping maps a segment.
// A fixed-address program can have one bias only.
func biasOf(f *binfile.File, m proc.Mapping) (address.Bias, bool) {
	for _, s := range f.Segments {
		if s.Type != elf.PT_LOAD || s.Flags&elf.PF_X == 0 || !covers(s, m) {
			continue
		}
		bias := address.BiasOf(m.Start, s.Vaddr.Add(int64(m.Offset)-int64(s.Off)))
		if bias&0xfff != 0 || !f.IsPIE() && bias != 0 {
			continue
		}
		return bias, true
	}
	return 0, false
}

// mapsUnder tells whether m maps some segment of the file under a bias.
func mapsUnder(f *binfile.File, m proc.Mapping, bias address.Bias) bool {
	for _, s := range f.Segments {
		if s.Type == elf.PT_LOAD && covers(s, m) &&
			address.BiasOf(m.Start, s.Vaddr.Add(int64(m.Offset)-int64(s.Off))) == bias {
			return true
		}
	}
	return false
}

// covers tells whether the mapping starts in the file pages of a segment.
func covers(s binfile.Segment, m proc.Mapping) bool {
	first := uint64(s.Off) &^ 0xfff
	return uint64(m.Offset) >= first && uint64(m.Offset) < uint64(s.Off)+s.Filesz
}

func isCode(m proc.Mapping) bool { return m.HasFile() && m.Perms&proc.Exec != 0 }

// byFile groups the mappings of files by inode, in order of appearance.
func byFile(maps []proc.Mapping) [][]proc.Mapping {
	at := map[proc.FileID]int{}
	var out [][]proc.Mapping
	for _, m := range maps {
		if !m.HasFile() {
			continue
		}
		i, ok := at[m.File]
		if !ok {
			i = len(out)
			at[m.File] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], m)
	}
	return out
}
