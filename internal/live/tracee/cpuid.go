package tracee

// cpuid executes CPUID (Intel SDM vol. 2A).
func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// tileDataOffset returns where the AMX tiles begin in the standard XSAVE
// format, 0 when the CPU has none.
func tileDataOffset() int {
	const leafXSave, tileData = 0xd, 18
	if max, _, _, _ := cpuid(0, 0); max < leafXSave {
		return 0
	}
	size, offset, _, _ := cpuid(leafXSave, tileData)
	if size == 0 {
		return 0
	}
	return int(offset)
}

// XSaveSize returns the bytes of an XSAVE area for all state that the kernel has
// enabled (XCR0), 0 when the processor or the kernel has no XSAVE.
func XSaveSize() int {
	const leafFeatures, osXSave, leafXSave = 1, 1 << 27, 0xd
	if max, _, _, _ := cpuid(0, 0); max < leafXSave {
		return 0
	}
	if _, _, ecx, _ := cpuid(leafFeatures, 0); ecx&osXSave == 0 {
		return 0
	}
	_, size, _, _ := cpuid(leafXSave, 0)
	return int(size+7) &^ 7
}
