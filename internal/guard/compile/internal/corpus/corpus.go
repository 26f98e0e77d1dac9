// Package corpus holds guards that together use every construct a guard may
// use. The compiler's tests run each natively and as bytecode on the same input
// and compare what they say.
package corpus

import "embed"

// Source is the text of the guards.
//
//go:embed guards_*.go
var Source embed.FS

// Guards are the guards by name.
var Guards = map[string]any{
	"Arithmetic8": Arithmetic8, "Arithmetic16": Arithmetic16, "Arithmetic32": Arithmetic32, "Arithmetic64": Arithmetic64,
	"Invokes": Invokes, "Exits": Exits,
	"Puts": Puts, "Zeroes": Zeroes,
	"Rewriting": Rewriting, "Callers": Callers, "Globals": Globals, "Recursion": Recursion,
	"Counts": Counts, "Maps": Maps, "MapOfNumbers": MapOfNumbers, "Depths": Depths, "Rates": Rates,
	"Unsigned8": Unsigned8, "Unsigned16": Unsigned16, "Unsigned32": Unsigned32, "Unsigned64": Unsigned64,
	"Division": Division, "DivisionNarrow": DivisionNarrow, "ShiftLeft": ShiftLeft, "ShiftRight": ShiftRight, "ShiftConstant": ShiftConstant, "ShiftSigned": ShiftSigned,
	"Conversions": Conversions, "Comparisons": Comparisons, "Booleans": Booleans, "BoolArgs": BoolArgs, "Constants": Constants, "Limits": Limits, "MinMax": MinMax,
	"BitCounts": BitCounts, "BitSwaps": BitSwaps, "BitCarry": BitCarry,
	"If": If, "Switch": Switch, "Loops": Loops, "NestedLoops": NestedLoops, "LabeledLoops": LabeledLoops, "RangeInt": RangeInt, "Rotate": Rotate,
	"Inlined": Inlined, "InlinedTwice": InlinedTwice, "TailVerdict": TailVerdict, "PhiVerdict": PhiVerdict, "Methods": Methods, "MultipleResults": MultipleResults, "Panics": Panics, "Threaded": Threaded,
	"Fields": Fields, "NestedFields": NestedFields, "TargetArray": TargetArray, "List": List, "ListByAddr": ListByAddr, "Table": Table, "FarField": FarField, "Addresses": Addresses, "StructCopy": StructCopy, "StructEqual": StructEqual, "TargetRange": TargetRange, "BoolField": BoolField,
	"LocalStruct": LocalStruct, "LocalArray": LocalArray, "Histogram": Histogram, "ByPointer": ByPointer, "ArrayByPointer": ArrayByPointer, "ArrayValue": ArrayValue, "ArrayParameter": ArrayParameter, "ManyLive": ManyLive, "ManyLiveCalls": ManyLiveCalls, "StructOfArrays": StructOfArrays,
	"CString": CString, "Counting": Counting, "Finding": Finding, "Prefixes": Prefixes, "LongText": LongText, "Slices": Slices, "MemAt": MemAt, "SameMem": SameMem, "Base64": Base64, "ConstantTable": ConstantTable, "TextParameter": TextParameter, "Lengths": Lengths, "MemInStruct": MemInStruct,
	"CheckedOnOneWay": CheckedOnOneWay, "BlankFields": BlankFields, "Converted": Converted, "SamePlace": SamePlace, "LoopVariables": LoopVariables, "Copies": Copies, "Orders": Orders, "NamedResults": NamedResults, "Falls": Falls, "Generic": Generic,
	"Readers": Readers, "Rounds": Rounds, "Given": Given, "Captured": Captured, "Changing": Changing, "Words": Words, "Anew": Anew,
	"SharedSlots": SharedSlots, "KeptSlots": KeptSlots,
	"AnyOfWords": AnyOfWords, "NamedRules": NamedRules, "Lists": Lists, "ChosenText": ChosenText, "Characters": Characters, "GenericTypes": GenericTypes,
	"Cuts": Cuts, "CutAtRunTime": CutAtRunTime, "Wholes": Wholes, "Overlaps": Overlaps, "Runes": Runes, "Jumps": Jumps, "JumpsIntoLoop": JumpsIntoLoop,
	"ByteTable": ByteTable, "StructTable": StructTable, "TableRange": TableRange,
	"Strings": Strings, "SliceArgs": SliceArgs, "ErrorArgs": ErrorArgs, "GoResult": GoResult, "NineWords": NineWords,
	"StackArgs": StackArgs, "ArgByIndex": ArgByIndex, "Clock": Clock, "Errnos": Errnos, "Floats": Floats, "Logs": Logs, "Codes": Codes, "Void": Void, "Pointer": Pointer,
}
