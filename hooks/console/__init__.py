"""The console: pages for operators in a browser, who log in and then make the same `/admin` calls as anybody."""
