//! The `proffer` command, built with the tests so that they always run what they were built with.

fn main() -> std::process::ExitCode {
    proffer::main()
}
