//! The `proffer` command.

fn main() -> std::process::ExitCode {
    proffer::main()
}
