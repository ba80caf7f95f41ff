#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| metric_router_fuzz::registry(input));
