// Host LIBRARY: threads that call a native library, while the virtual machine makes
// use of SIGSEGV itself (null checks of compiled code), throws compiled code away
// (the kinds of Shape come one after another), and collects garbage.
public class Host {
	static native void ready();
	static native void calls(int from);
	static native void wrong();

	int field = 7;
	interface Shape { int area(int n); }
	static final Shape[] SHAPES = {n -> n, n -> n + 1, n -> n * 2, n -> n - 3};
	static volatile Object garbage;

	static int nullCheck(Host h) {
		try {
			return h.field;
		} catch (NullPointerException e) {
			return -1;
		}
	}

	static void work(int from) {
		for (int round = 0;; round++) {
			calls(from + round * 64);
			Shape s = SHAPES[Math.min(round / 3000, 3) * (round & 1)];
			int sum = 0;
			for (int i = 0; i < 50; i++) {
				sum += s.area(i);
			}
			int want = s == SHAPES[0] ? 1225 : s == SHAPES[1] ? 1275 : s == SHAPES[2] ? 2450 : 1075;
			if (sum != want || nullCheck(round % 5 == 0 ? null : new Host()) != (round % 5 == 0 ? -1 : 7)) {
				wrong();
			}
			garbage = new byte[round % 7 * 1000];
		}
	}

	public static void main(String[] args) {
		System.load(args[0]);
		ready();
		for (int t = 1; t < 3; t++) {
			final int from = t * 100000;
			new Thread(() -> work(from)).start();
		}
		work(0);
	}
}
