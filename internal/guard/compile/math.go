package compile

import (
	"go/constant"
	"go/token"
	"go/types"
	"math"
)

// mathPackage is a math that has the limits of integers and nothing else.
func mathPackage() *types.Package {
	pkg := types.NewPackage("math", "math")
	for name, v := range map[string]int64{
		"MaxInt": math.MaxInt, "MinInt": math.MinInt,
		"MaxInt8": math.MaxInt8, "MinInt8": math.MinInt8, "MaxUint8": math.MaxUint8,
		"MaxInt16": math.MaxInt16, "MinInt16": math.MinInt16, "MaxUint16": math.MaxUint16,
		"MaxInt32": math.MaxInt32, "MinInt32": math.MinInt32, "MaxUint32": math.MaxUint32,
		"MaxInt64": math.MaxInt64, "MinInt64": math.MinInt64,
	} {
		limit(pkg, name, constant.MakeInt64(v))
	}
	limit(pkg, "MaxUint", constant.MakeUint64(math.MaxUint64))
	limit(pkg, "MaxUint64", constant.MakeUint64(math.MaxUint64))
	pkg.MarkComplete()
	return pkg
}

func limit(pkg *types.Package, name string, v constant.Value) {
	pkg.Scope().Insert(types.NewConst(token.NoPos, pkg, name, types.Typ[types.UntypedInt], v))
}
