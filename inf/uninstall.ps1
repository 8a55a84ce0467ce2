<#
.SYNOPSIS
Removes the filter and all that belongs to it: the component, the staged package, the service, and on request the
certificate.

.PARAMETER Certificate
Removes test certificates with this subject as well, for example "CN=Sluice Test".
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [string] $Certificate
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$left = @()

if (Get-NetAdapterBinding -ComponentID Sluice_sluice -ErrorAction SilentlyContinue) {
    if ($PSCmdlet.ShouldProcess('Sluice_sluice', 'Remove the network component')) {
        & netcfg.exe -u Sluice_sluice
        if ($LASTEXITCODE -ne 0) {
            $left += "netcfg ended with $LASTEXITCODE"
        }
    }
}

$packages = Get-WindowsDriver -Online | Where-Object { (Split-Path $_.OriginalFileName -Leaf) -eq 'sluice.inf' }
foreach ($package in $packages) {
    if ($PSCmdlet.ShouldProcess($package.Driver, 'Delete the staged package')) {
        & pnputil.exe /delete-driver $package.Driver
        if ($LASTEXITCODE -ne 0) {
            $left += "pnputil left $($package.Driver)"
        }
    }
}

if (Get-Service -Name sluice -ErrorAction SilentlyContinue) {
    if ($PSCmdlet.ShouldProcess('sluice', 'Delete the service')) {
        & sc.exe delete sluice
        if ($LASTEXITCODE -ne 0) {
            $left += "sc ended with $LASTEXITCODE; a handle to the driver may be open"
        }
    }
}

if ($Certificate) {
    foreach ($store in 'Root', 'TrustedPublisher') {
        Get-ChildItem "Cert:\LocalMachine\$store" | Where-Object { $_.Subject -eq $Certificate } | ForEach-Object {
            if ($PSCmdlet.ShouldProcess($_.Subject, "Remove from $store")) {
                Remove-Item -LiteralPath $_.PSPath
            }
        }
    }
}

if ($left) {
    throw "Not all could be removed: $($left -join '; ')."
}
Write-Output 'Nothing of Sluice is left, unless a restart is pending.'
