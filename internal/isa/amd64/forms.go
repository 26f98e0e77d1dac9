package amd64

// form says what follows an opcode: a ModRM byte, and the kind of immediate
// that encoding.immSize knows.
type form struct {
	known bool
	modrm bool
	imm   byte
}

// forms gives the letters of the two maps below their meaning. A letter that
// is not here ('-') is no instruction in 64-bit mode.
var forms = [256]form{
	'.': {known: true},
	'm': {known: true, modrm: true},
	'M': {known: true, modrm: true, imm: '1'},
	'Z': {known: true, modrm: true, imm: 'z'},
	'4': {known: true, modrm: true, imm: '4'},
	't': {known: true, modrm: true, imm: 't'},
	'T': {known: true, modrm: true, imm: 'T'},
	'x': {known: true, modrm: true, imm: 'x'},
	'b': {known: true, imm: '1'},
	'w': {known: true, imm: '2'},
	'e': {known: true, imm: '3'},
	'z': {known: true, imm: 'z'},
	'v': {known: true, imm: 'v'},
	'o': {known: true, imm: 'o'},
	'j': {known: true, imm: 'j'},
	'J': {known: true, imm: 'J'},
}

// formsOne is the one-byte opcode map (Intel SDM vol. 2, table A-2), a row of
// sixteen for each high digit. Prefixes and escapes stand as '-': they are
// taken before this map is asked.
const formsOne = "" +
	"mmmmbz--mmmmbz--" + // 0
	"mmmmbz--mmmmbz--" + // 1
	"mmmmbz--mmmmbz--" + // 2
	"mmmmbz--mmmmbz--" + // 3
	"----------------" + // 4
	"................" + // 5
	"---m----zZbM...." + // 6
	"jjjjjjjjjjjjjjjj" + // 7
	"MZ-Mmmmmmmmmmmmm" + // 8
	"..........-....." + // 9
	"oooo....bz......" + // a
	"bbbbbbbbvvvvvvvv" + // b
	"MMw.--MZe.w..b-." + // c
	"mmmm---.mmmmmmmm" + // d
	"jjjjbbbbJJ-j...." + // e
	"-.--..tT......mm" //   f

// forms0F is the two-byte map (Intel SDM vol. 2, table A-3).
const forms0F = "" +
	"mmmm-.....-.-m.-" + // 0
	"mmmmmmmmmmmmmmmm" + // 1
	"mmmm----mmmmmmmm" + // 2
	"......-.--------" + // 3
	"mmmmmmmmmmmmmmmm" + // 4
	"mmmmmmmmmmmmmmmm" + // 5
	"mmmmmmmmmmmmmmmm" + // 6
	"MMMMmmm.xm--mmmm" + // 7
	"JJJJJJJJJJJJJJJJ" + // 8
	"mmmmmmmmmmmmmmmm" + // 9
	"...mMmmm...mMmmm" + // a
	"mmmmmmmmmmMmmmmm" + // b
	"mmMmMMMm........" + // c
	"mmmmmmmmmmmmmmmm" + // d
	"mmmmmmmmmmmmmmmm" + // e
	"mmmmmmmmmmmmmmmm" //   f
