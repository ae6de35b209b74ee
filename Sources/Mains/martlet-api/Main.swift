import ArgumentParser
import MartletSuite

@main
struct MartletAPI: ServiceExecutable {
    static let role = "api"
    static let abstract = "HTTP + JSON for app servers, and the chat page."
    @OptionGroup var options: ServiceOptions
}
