/// Why a check did not come to a verdict; each is one line.
enum CheckError: Error, Equatable {
    case cannotStart(String)
}
