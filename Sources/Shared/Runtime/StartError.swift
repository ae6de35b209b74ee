/// Why the suite cannot start: one line that says what is wrong and what to do. The executables print it and exit 1.
public struct StartError: Error, Equatable, CustomStringConvertible {
    public let problem: String
    public let cure: String

    public init(_ problem: String, cure: String) {
        self.problem = problem
        self.cure = cure
    }

    public var description: String { "\(problem). \(cure)." }
}
