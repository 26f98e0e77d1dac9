package amd64

// form says what follows an opcode: a ModRM byte, and the kind of immediate
// that encoding.immSize knows.
type form struct {
	modrm bool
	imm   byte
}

// forms gives the letters of the two maps below their meaning. A letter that
// is not here ('-') is no instruction in 64-bit mode.
var forms = map[byte]form{
	'.': {},
	'm': {modrm: true},
	'M': {modrm: true, imm: '1'},
	'Z': {modrm: true, imm: 'z'},
	'4': {modrm: true, imm: '4'},
	't': {modrm: true, imm: 't'},
	'T': {modrm: true, imm: 'T'},
	'x': {modrm: true, imm: 'x'},
	'b': {imm: '1'},
	'w': {imm: '2'},
	'e': {imm: '3'},
	'z': {imm: 'z'},
	'v': {imm: 'v'},
	'o': {imm: 'o'},
	'j': {imm: 'j'},
	'J': {imm: 'J'},
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
