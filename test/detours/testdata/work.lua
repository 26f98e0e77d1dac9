-- Everything of Lua that is deterministic: nothing prints an address or a time.
local out = {}
local function say(...)
  local t = table.pack(...)
  for i = 1, t.n do t[i] = tostring(t[i]) end
  print(table.concat(t, "\t"))
end

-- strings: formats, patterns, packing, utf8
say(string.format("%5d|%-5s|%05.2f|%x|%q|%g|%a|%i|%c|%o|%e", 42, "ab", 3.14159, 255, "line\n\0\"", 1e100, 0.5, 7, 65, 8, 12345.678))
for w, n in ("one=1, two=22, three=333"):gmatch("(%a+)=(%d+)") do say(w, n) end
say(("hello world"):gsub("o", "0"), ("abc"):gsub("%w", "%0%0"), ("abc"):gsub("", "-"), ("x = $y"):gsub("%$(%w+)", { y = 5 }))
say(("THE (quick) fox"):find("%((%a+)%)"), ("f(a(b)c)d"):match("%b()"), ("key = value"):match("^(%w+)%s*=%s*(%w+)$"), ("THE fox"):find("%f[%a]%a+%f[%A]"))
say(string.rep("ab", 5, "-"), ("abc"):reverse(), ("aBc"):upper(), ("aBc"):lower(), ("abc"):byte(1, -1), string.char(72, 105), #("x"):rep(1000))
local packed = string.pack("<i4>I2dz s1", -5, 513, 2.5, "zero", "len")
say(#packed, string.unpack("<i4>I2dz s1", packed))
for p, c in utf8.codes("añ€😀") do io.write(p, ":", c, " ") end
say(utf8.len("añ€"), utf8.char(241, 8364), utf8.offset("añ€", 3), utf8.codepoint("€", 1))

-- tables: sort, move, concat, unpack, length, metatables
local t = {}
for i = 1, 200 do t[i] = (i * 7919) % 1009 end
table.sort(t) say(table.concat(t, ",", 1, 20))
table.sort(t, function(a, b) return a > b end) say(table.concat(t, ",", 1, 20))
say(pcall(table.sort, { 3, 1, 2, 5, 4, 9, 8 }, function() error("no order") end))
table.insert(t, 1, "x") table.insert(t, "y") say(table.remove(t), table.remove(t, 1), #t, select("#", table.unpack(t)))
say(#table.move({ 1, 2, 3 }, 1, 3, 2), next({}), rawlen({ 1, 2 }), rawequal(t, t))
local V = {}
V.__index = V
V.__add = function(a, b) return setmetatable({ a[1] + b[1], a[2] + b[2] }, V) end
V.__eq = function(a, b) return a[1] == b[1] and a[2] == b[2] end
V.__lt = function(a, b) return a[1] < b[1] end
V.__le = function(a, b) return a[1] <= b[1] end
V.__tostring = function(a) return "(" .. a[1] .. "," .. a[2] .. ")" end
V.__len = function() return 2 end
V.__call = function(self, x) return x * self[1] end
V.__concat = function(a, b) return tostring(a) .. "&" .. tostring(b) end
V.__unm = function(a) return setmetatable({ -a[1], -a[2] }, V) end
V.__close = function(a) say("closed", a) end
V.__name = "V"
local function v(a, b) return setmetatable({ a, b }, V) end
say(v(1, 2) + v(3, 4), v(1, 2) == v(1, 2), v(1, 2) < v(2, 1), v(1, 2) <= v(1, 3), #v(1, 2), v(3, 1)(7), v(1, 2) .. v(3, 4), -v(1, 2))
do local c <close> = v(9, 9) local k <const> = 5 say("in scope", k) end
say(pcall(function() local c <close> = v(8, 8) error("through a close") end))
say(pcall(function() return {} + 1 end))
say(select(2, pcall(function() return v(1, 2) * 2 end)))

-- closures, varargs, recursion, tail calls, goto, integer division
local function counter() local n = 0 return function() n = n + 1 return n end end
local c1, c2 = counter(), counter() c1() c1() say(c1(), c2())
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
say(fib(20))
local function loop(n, acc) if n == 0 then return acc end return loop(n - 1, acc + n) end
say(loop(100000, 0))
local function deep(n) return n == 0 and 0 or 1 + deep(n - 1) end
say(deep(10000), (pcall(deep, 1e7)))
for i = 1, 3 do for j = 1, 3 do if j == 2 then goto continue end io.write(i, j, " ") ::continue:: end end
say(7 // 2, -7 // 2, 7 % -3, 7.5 // 2, 2 ^ 10, 5 // 0.0, 1 << 62, -1 >> 60, 5 & 3, 5 | 3, 5 ~ 3, ~5, 3 | 0, math.maxinteger + 1 == math.mininteger)
say(pcall(function() return 1 // 0 end)) say(pcall(function() return 1.5 | 1 end)) say(10 == 10.0, "10" + 5, "0x10" * 1, 0x.8p1)

-- coroutines: generators, errors, wrap, close, yield across pcall
local function gen(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end) end
local sum = 0 for i in gen(1000) do sum = sum + i end say(sum)
local co = coroutine.create(function(a) local ok, e = pcall(function() local b = coroutine.yield(a + 1) error({ b }) end) coroutine.yield(ok, e[1]) error("last") end)
say(coroutine.resume(co, 1)) say(coroutine.resume(co, "x")) say(coroutine.resume(co)) say(coroutine.status(co), coroutine.resume(co))
local many = {} for i = 1, 500 do many[i] = coroutine.wrap(function() for j = 1, 3 do coroutine.yield(i * j) end end) end
sum = 0 for r = 1, 3 do for i = 1, 500 do sum = sum + many[i]() end end say(sum, coroutine.isyieldable(), coroutine.running() ~= nil)
local cc = coroutine.create(function() local x <close> = v(7, 7) coroutine.yield() end) coroutine.resume(cc) say(coroutine.close(cc))

-- errors: levels, xpcall, tracebacks, error objects, loading
say(xpcall(function() local x = nil; return x.field end, function(m) return "handled: " .. m end))
say(select(2, pcall(error, { code = 5 })).code, pcall(error, "msg", 0), pcall(error))
say(load("return 1 +")) say(load("x ="))  say(load("return ...", "chunk", "t", {})(5)) say(load("for"))  say(pcall(load, nil))
say(load(string.dump(function(a) return a * 2 end), "d", "b")(21))
local pieces = { "return ", "1", "+2" } local k = 0 say(load(function() k = k + 1 return pieces[k] end)())
say((debug.traceback("trace", 1):gsub("\n.*", "")), debug.getinfo(1, "l").currentline > 0, debug.getinfo(print).what)
local hooks = 0 debug.sethook(function() hooks = hooks + 1 end, "l") local z = 1
z = 2 debug.sethook() say(hooks > 0, debug.gethook())
say(select(2, pcall(string.rep, "x", -1)) == "", pcall(string.rep)) say(pcall(setmetatable, 1, {})) say(pcall(("x").bad))

-- collection: cycles, weak tables, finalizers
local weak = setmetatable({}, { __mode = "k" }) for i = 1, 100 do weak[{}] = i end
local finalized = 0 for i = 1, 100 do setmetatable({}, { __gc = function() finalized = finalized + 1 end }) end
collectgarbage() collectgarbage() local left = 0 for _ in pairs(weak) do left = left + 1 end say(left, finalized)
collectgarbage("generational") for i = 1, 20000 do local x = { i, tostring(i), { i } } end collectgarbage("incremental", 100, 200, 10)
for i = 1, 20000 do out[i % 100] = { i .. "", function() return i end } end collectgarbage("stop") collectgarbage("restart") say(collectgarbage("step", 100) ~= nil, collectgarbage("isrunning"))

-- math, files, os
math.randomseed(42) say(math.random(1000), math.random(1000), math.random(5, 6), math.floor(3.7), math.ceil(3.2), math.fmod(7, 3), math.modf(3.25))
say(string.format("%.10f %.10f %.10f %.10f %.10f", math.sin(1), math.cos(1), math.tan(0.5), math.exp(1), math.log(10)), math.log(8, 2), math.sqrt(2) == 2 ^ 0.5, math.tointeger(3.0), math.type(1), math.type(1.0), math.ult(1, -1), math.abs(-5), math.max(1, 9, 3), math.min(4, 2))
say(string.format("%.10f %.10f %.10f", math.asin(0.5), math.acos(0.5), math.atan(1, 2)), math.pi, math.huge, -math.huge, 0 / 0 ~= 0 / 0)
local name = os.tmpname() local f = assert(io.open(name, "w")) f:write("first\n", 42, " ", 1.5, "\nthird") f:setvbuf("full") f:close()
for l in io.lines(name) do say(l) end f = io.open(name) say(f:read("l", "n", "n", "L", "a")) say(f:seek("set", 2), f:read(3)) f:close() say(io.type(f), pcall(f.read, f)) os.remove(name)
say(io.open("/nonexistent/file")) say(os.rename("/nonexistent/a", "/nonexistent/b")) say(os.time({ year = 2024, month = 2, day = 30, hour = 12 }), os.date("!%Y-%m-%d %H:%M:%S", 86400 * 365), os.getenv("NONE"), os.setlocale("C"), os.difftime(5, 3))
say(tostring(nil), tostring(true), tonumber("z", 36), tonumber("8", 8), tonumber("  0x1p4  "), tonumber("1e"), type(print), tonumber("1e1"), math.tointeger("8"))
say(pcall(require, "no.such.module") == false, package.config:sub(1, 1), _VERSION)

-- a small interpreter of its own, n queens, a sieve, string building
local function queens(n) local count, cols, d1, d2 = 0, {}, {}, {}
  local function place(r) if r > n then count = count + 1 return end
    for c = 1, n do if not cols[c] and not d1[r + c] and not d2[r - c + n] then cols[c], d1[r + c], d2[r - c + n] = true, true, true place(r + 1) cols[c], d1[r + c], d2[r - c + n] = nil, nil, nil end end end
  place(1) return count end
say(queens(7))
local sieve, primes = {}, 0 for i = 2, 20000 do if not sieve[i] then primes = primes + 1 for j = i * i, 20000, i do sieve[j] = true end end end say(primes)
local b = {} for i = 1, 5000 do b[#b + 1] = string.format("%d:%s;", i, ("%x"):format(i * 2654435761 % 2 ^ 32)) end local s = table.concat(b) local h = 0 for i = 1, #s do h = (h * 31 + s:byte(i)) & 0xffffffff end say(#s, h)
error(setmetatable({}, { __tostring = function() return "the end" end }))
