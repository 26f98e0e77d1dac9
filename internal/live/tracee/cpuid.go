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
