#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| host_sim_fuzz::textpb(input));
