//! Twenty races, each with its cure. The configuration picks one: two digits, then `b` for the bug
//! or `c` for the cure.
//!
//! Written on the raw ABI, so that what happens between two hostcalls is what stands here. Values
//! are i64, little-endian.

#![no_std]

use core::ptr::{addr_of_mut, null_mut};

mod abi {
    unsafe extern "C" {
        pub fn proxy_get_shared_data(k: *const u8, kn: usize, v: *mut *mut u8, vn: *mut usize, cas: *mut u32) -> u32;
        pub fn proxy_set_shared_data(k: *const u8, kn: usize, v: *const u8, vn: usize, cas: u32) -> u32;
        pub fn proxy_get_header_map_value(map: u32, k: *const u8, kn: usize, v: *mut *mut u8, vn: *mut usize) -> u32;
        pub fn proxy_get_buffer_bytes(kind: u32, start: usize, most: usize, v: *mut *mut u8, vn: *mut usize) -> u32;
        pub fn proxy_send_local_response(code: u32, d: *const u8, dn: usize, b: *const u8, bn: usize, h: *const u8, hn: usize, grpc: i32) -> u32;
        pub fn proxy_get_current_time_nanoseconds(out: *mut u64) -> u32;
        pub fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub fn proxy_define_metric(kind: u32, n: *const u8, nn: usize, id: *mut u32) -> u32;
        pub fn proxy_increment_metric(id: u32, by: i64) -> u32;
        pub fn proxy_record_metric(id: u32, value: u64) -> u32;
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

static mut HEAP: [u8; 1 << 16] = [0; 1 << 16];
static mut USED: usize = 0;
static mut RACE: u8 = 0;
static mut CURED: bool = false;
static mut ME: i64 = 0;
static mut METRIC: u32 = 0;
static mut SNAPSHOT: i64 = 0;

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    // SAFETY: one thread; what was given before is not used after this has come around.
    unsafe {
        if USED + size > 1 << 16 {
            USED = 0;
        }
        let at = addr_of_mut!(HEAP).cast::<u8>().add(USED);
        USED += size.next_multiple_of(8);
        at
    }
}

const ABSENT: u32 = u32::MAX;

/// Value and CAS number; `None` if there is no such key.
fn read(key: &[u8]) -> Option<(i64, u32)> {
    let (mut value, mut len, mut cas) = (null_mut(), 0, 0);
    // SAFETY: the pointers are of this frame; the host gives eight bytes of this heap.
    unsafe {
        let status = abi::proxy_get_shared_data(key.as_ptr(), key.len(), &mut value, &mut len, &mut cas);
        (status == 0 && len == 8).then(|| (value.cast::<i64>().read_unaligned(), cas))
    }
}

fn get(key: &[u8]) -> i64 {
    read(key).map_or(0, |(value, _)| value)
}

/// False if the CAS number was not the current one. 0 always writes; [`ABSENT`] only creates.
fn write(key: &[u8], value: i64, cas: u32) -> bool {
    let bytes = value.to_le_bytes();
    // SAFETY: as above.
    unsafe { abi::proxy_set_shared_data(key.as_ptr(), key.len(), bytes.as_ptr(), 8, cas) == 0 }
}

/// Changes a key as often as it takes.
fn update(key: &[u8], change: impl Fn(i64) -> i64) -> i64 {
    loop {
        let (value, cas) = read(key).unwrap_or((0, ABSENT));
        if write(key, change(value), cas) {
            return value;
        }
    }
}

fn now() -> i64 {
    let mut out = 0;
    // SAFETY: as above.
    unsafe { abi::proxy_get_current_time_nanoseconds(&mut out) };
    (out / 1_000_000_000) as i64
}

/// Second byte of the path: what a request is for.
fn what() -> u8 {
    let (key, mut value, mut len) = (b":path", null_mut(), 0);
    // SAFETY: as above.
    unsafe {
        let status = abi::proxy_get_header_map_value(0, key.as_ptr(), key.len(), &mut value, &mut len);
        if status == 0 && len > 1 { value.add(1).read() } else { b'?' }
    }
}

fn reply(code: u32) {
    let none = [].as_ptr();
    // SAFETY: nothing is pointed at.
    unsafe { abi::proxy_send_local_response(code, none, 0, none, 0, none, 0, -1) };
}

fn cured() -> bool {
    // SAFETY: one thread.
    unsafe { CURED }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(_: u32, _: u32) -> u32 {
    let (mut text, mut len) = (null_mut(), 0);
    // SAFETY: as above; one thread.
    unsafe {
        abi::proxy_get_buffer_bytes(7, 0, 16, &mut text, &mut len);
        if len < 3 {
            return 0;
        }
        RACE = (text.read() - b'0') * 10 + text.add(1).read() - b'0';
        CURED = text.add(2).read() == b'c';
        ME = update(b"ids", |ids| ids + 1) + 1;
        let name = b"race";
        // A gauge for the race about gauges, else a counter.
        abi::proxy_define_metric(u32::from(RACE == 14), name.as_ptr(), name.len(), &raw mut METRIC);
        if RACE == 13 {
            abi::proxy_set_tick_period_milliseconds(100);
        }
        match RACE {
            // A stack of four.
            5 => {
                for at in 1..=4 {
                    write(&[b'n', b'0' + at], i64::from(at % 4 + u8::from(at < 4)) * i64::from(at < 4), 0);
                }
                write(b"top", 1, 0);
            }
            // A lease of worker 0 that has run out; ids: canary, main thread, workers.
            6 | 7 => _ = write(b"lease", 3 << 8, 0),
            11 | 17 => {
                write(b"a", 1, 0);
                write(b"b", 1, 0);
                write(b"ab", 1 << 8 | 1, 0);
            }
            1 | 2 | 3 | 4 | 9 | 10 | 13 | 15 | 16 | 18 | 19 | 20 => _ = write(b"x", 0, 0),
            _ => {}
        }
    }
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(_: u32, _: u32, _: u32) -> u32 {
    // SAFETY: one thread.
    let code = match unsafe { RACE } {
        1 => lost_update(),
        2 => cas_forced(),
        3 => check_then_act(),
        4 => double_permit(),
        5 => aba(),
        6 => lost_lease(),
        7 => lease_taken_twice(),
        8 => double_init(),
        9 => stale_snapshot(),
        10 => dropped_conflict(),
        11 => torn_update(),
        12 => lock_order(),
        14 => gauge(),
        15 => consumed_twice(),
        16 => lost_wake_up(),
        17 => transfer(),
        18 => sequence(),
        19 => window_reset(),
        20 => resurrection(),
        _ => 200,
    };
    reply(code);
    1
}

/// Reads, adds one, writes whatever has been written meanwhile.
fn lost_update() -> u32 {
    if cured() {
        update(b"x", |x| x + 1);
    } else {
        let x = get(b"x");
        write(b"x", x + 1, 0);
    }
    200
}

/// Asks for the CAS number, and writes without it when it was refused.
fn cas_forced() -> u32 {
    if cured() {
        update(b"x", |x| x + 1);
        return 200;
    }
    let (x, cas) = read(b"x").unwrap_or((0, ABSENT));
    if !write(b"x", x + 1, cas) {
        write(b"x", x + 1, 0);
    }
    200
}

/// Two may pass.
fn check_then_act() -> u32 {
    loop {
        let (x, cas) = read(b"x").unwrap_or((0, ABSENT));
        if x >= 2 {
            return 429;
        }
        if write(b"x", x + 1, if cured() { cas } else { 0 }) {
            return 200;
        }
    }
}

/// A breaker that is half open lets one request through.
fn double_permit() -> u32 {
    let (permits, cas) = read(b"x").unwrap_or((0, ABSENT));
    let free = permits == 0;
    let took = free && write(b"x", 1, if cured() { cas } else { 0 });
    if took { 200 } else { 503 }
}

/// Takes from a list, and sees by the value alone whether it is as it was.
fn pop() -> i64 {
    loop {
        let (top, mut cas) = read(b"top").unwrap_or((0, ABSENT));
        if top == 0 {
            return 0;
        }
        let next = get(&[b'n', b'0' + top as u8]);
        if !cured() {
            let (again, fresh) = read(b"top").unwrap_or((0, ABSENT));
            if again != top {
                continue;
            }
            cas = fresh;
        }
        if write(b"top", next, cas) {
            return top;
        }
    }
}

fn push(item: i64) {
    loop {
        let (top, cas) = read(b"top").unwrap_or((0, ABSENT));
        write(&[b'n', b'0' + item as u8], top, 0);
        if write(b"top", item, cas) {
            return;
        }
    }
}

/// One takes an item; another takes two and puts the first back.
fn aba() -> u32 {
    let own = |item: i64| item == 0 || write(&[b'o', b'0' + item as u8], 1, ABSENT);
    if what() == b'p' {
        return if own(pop()) { 200 } else { 500 };
    }
    let (first, second) = (pop(), pop());
    push(first);
    if own(second) { 200 } else { 500 }
}

/// Owner and time of expiry in one value: `owner << 8 | expired`.
fn lost_lease() -> u32 {
    // SAFETY: one thread.
    let me = unsafe { ME };
    let (lease, cas) = read(b"lease").unwrap_or((0, ABSENT));
    let (owner, valid) = (lease >> 8, lease & 1 == 1);
    if what() == b'r' {
        // The owner renews: it has read that the lease is its own.
        let own = owner == 3;
        return if own && write(b"lease", 3 << 8 | 1, if cured() { cas } else { 0 }) { 200 } else { 409 };
    }
    if !valid && write(b"lease", me << 8 | 1, cas) { 200 } else { 409 }
}

/// A lease has run out; everybody who sees it takes it.
fn lease_taken_twice() -> u32 {
    // SAFETY: one thread.
    let me = unsafe { ME };
    let (lease, cas) = read(b"lease").unwrap_or((0, ABSENT));
    let free = lease & 1 == 0;
    if free && write(b"lease", me << 8 | 1, if cured() { cas } else { 0 }) { 200 } else { 409 }
}

/// Who finds nothing makes it, and there should be one.
fn double_init() -> u32 {
    if read(b"made").is_none() && write(b"made", 1, if cured() { ABSENT } else { 0 }) {
        update(b"times", |times| times + 1);
    }
    200
}

/// What was read in one callback is written back in another.
fn stale_snapshot() -> u32 {
    // SAFETY: one thread.
    unsafe { SNAPSHOT = get(b"x") };
    200
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(_: u32) {
    // SAFETY: one thread.
    let (race, snapshot) = unsafe { (RACE, SNAPSHOT) };
    if race == 9 && cured() {
        update(b"x", |x| x + 1);
    } else if race == 9 {
        write(b"x", snapshot + 1, 0);
    }
}

/// Gives up at the first conflict and says nothing.
fn dropped_conflict() -> u32 {
    for _ in 0..if cured() { 1_000 } else { 1 } {
        let (x, cas) = read(b"x").unwrap_or((0, ABSENT));
        if write(b"x", x + 1, cas) {
            break;
        }
    }
    200
}

/// Two keys that should be equal.
fn torn_update() -> u32 {
    if cured() {
        if what() == b'w' {
            update(b"ab", |ab| ab + (1 << 8 | 1));
            return 200;
        }
        let ab = get(b"ab");
        return if ab >> 8 == ab & 0xff { 200 } else { 500 };
    }
    if what() == b'w' {
        write(b"a", 2, 0);
        write(b"b", 2, 0);
        return 200;
    }
    if get(b"a") == get(b"b") { 200 } else { 500 }
}

fn lock(key: &[u8]) {
    loop {
        let (held, cas) = read(key).unwrap_or((0, ABSENT));
        if held == 0 && write(key, 1, cas) {
            return;
        }
    }
}

/// Two locks, taken in one order here and in the other there.
fn lock_order() -> u32 {
    let (first, second) = if what() == b'b' && !cured() { (b"l2", b"l1") } else { (b"l1", b"l2") };
    lock(first);
    lock(second);
    write(second, 0, 0);
    write(first, 0, 0);
    200
}

/// Every thread with a tick wants to lead; whoever reads that nobody does, leads.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(_: u32) {
    let (leader, cas) = read(b"x").unwrap_or((0, ABSENT));
    // SAFETY: one thread.
    unsafe {
        if leader == 0 && write(b"x", ME, if cured() { cas } else { 0 }) {
            abi::proxy_increment_metric(METRIC, 1);
        }
    }
}

/// The sum is right in shared data; the gauge is set in another order.
fn gauge() -> u32 {
    let sum = update(b"sum", |sum| sum + 1) + 1;
    // SAFETY: one thread.
    unsafe {
        if cured() {
            abi::proxy_increment_metric(METRIC, 1);
        } else {
            abi::proxy_record_metric(METRIC, sum as u64);
        }
    }
    200
}

/// Takes the item at the head, then moves the head.
fn consumed_twice() -> u32 {
    let head = if cured() {
        update(b"x", |head| head + 1)
    } else {
        let head = get(b"x");
        write(b"x", head + 1, 0);
        head
    };
    let first = write(&[b'd', b'0' + head as u8], 1, ABSENT);
    if first { 200 } else { 500 }
}

/// A consumer goes to sleep when there is nothing; a producer wakes it if it sleeps.
fn lost_wake_up() -> u32 {
    match what() {
        b'p' => {
            update(b"x", |items| items + 1);
            if get(b"sleeps") == 1 {
                write(b"sleeps", 0, 0);
            }
        }
        b'c' => {
            if cured() {
                write(b"sleeps", 1, 0);
            }
            if get(b"x") == 0 {
                write(b"sleeps", 1, 0);
                if cured() && get(b"x") > 0 {
                    write(b"sleeps", 0, 0);
                }
            } else {
                write(b"sleeps", 0, 0);
            }
        }
        _ => return if get(b"x") > 0 && get(b"sleeps") == 1 { 500 } else { 200 },
    }
    200
}

/// Moves one from `a` to `b`; somebody counts both.
fn transfer() -> u32 {
    let (a, b) = if cured() {
        if what() == b'm' {
            update(b"ab", |ab| ab - (1 << 8) + 1);
            return 200;
        }
        let ab = get(b"ab");
        (ab >> 8, ab & 0xff)
    } else {
        if what() == b'm' {
            update(b"a", |a| a - 1);
            update(b"b", |b| b + 1);
            return 200;
        }
        (get(b"a"), get(b"b"))
    };
    if a + b == 2 { 200 } else { 500 }
}

/// Numbers that nobody else has.
fn sequence() -> u32 {
    let number = if cured() {
        update(b"x", |x| x + 1) + 1
    } else {
        let (x, cas) = read(b"x").unwrap_or((0, ABSENT));
        write(b"x", x + 1, cas);
        x + 1
    };
    if write(&[b's', b'0' + number as u8], 1, ABSENT) { 200 } else { 500 }
}

/// Two may pass in a window; the first of a new window counts from nothing.
fn window_reset() -> u32 {
    let window = now() / 10;
    if cured() {
        let before = update(b"x", |x| if x >> 8 == window { x + 1 } else { window << 8 | 1 });
        let passed = if before >> 8 == window { before & 0xff } else { 0 };
        return if passed < 2 { 200 } else { 429 };
    }
    if get(b"window") != window {
        write(b"x", 0, 0);
        write(b"window", window, 0);
    }
    if update(b"x", |x| x + 1) < 2 { 200 } else { 429 }
}

/// -1 is gone for good.
fn resurrection() -> u32 {
    if what() == b'd' {
        write(b"x", -1, 0);
    } else if cured() {
        update(b"x", |x| if x == -1 { x } else { x + 1 });
    } else {
        let x = get(b"x");
        if x != -1 {
            write(b"x", x + 1, 0);
        }
    }
    200
}
