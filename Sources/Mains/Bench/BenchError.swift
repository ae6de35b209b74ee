/// Why a benchmark could not be made; one line for the user, exit code 2.
struct BenchError: Error, Equatable, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
