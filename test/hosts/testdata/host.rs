// Threads that call a native library; each panics now and then, and is caught.
use std::panic;

extern "C" {
    fn native_ready();
    fn native_calls(from: i32);
    fn native_wrong();
}

fn work(mut from: i32) {
    loop {
        unsafe { native_calls(from) };
        let caught = panic::catch_unwind(|| {
            let text = vec![from; 3];
            if from % 640 == 0 {
                return text[from as usize % 3 + 3]; // out of bounds
            }
            text[1]
        });
        if caught.is_err() != (from % 640 == 0) {
            unsafe { native_wrong() };
        }
        from = (from + 64) % 1_000_000_000;
    }
}

fn main() {
    panic::set_hook(Box::new(|_| {}));
    unsafe { native_ready() };
    for t in 1..3 {
        std::thread::spawn(move || work(t * 1000));
    }
    work(0);
}
