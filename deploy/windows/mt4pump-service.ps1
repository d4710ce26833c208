<#
.SYNOPSIS
    Installs mt4pump into a Python environment of its own and makes it a Windows service.

.DESCRIPTION
    A thin caller of `mt4pump service`, which does the work and may be used without this script. Run it elevated, as
    often as you like: what is there is brought up to date. Nothing is downloaded but Python packages.

.PARAMETER Python
    The python.exe to build the environment with. Its word size must equal the DLL's: see README.md.

.PARAMETER Package
    What pip installs: mt4pump, a wheel, or a folder. Consumers need what [consumers] behind it brings; if nothing is
    given it is mt4pump, or mt4pump[consumers] when there are consumers among the programs.

.PARAMETER Constraints
    The locked set of versions; constraints.txt of the folder above, for a 32-bit Python constraints-win32.txt.

.PARAMETER Environment
    The folder of mt4pump's own Python environment. Every service account must be able to read it.

.PARAMETER Root
    The folder for settings, data and logs.

.PARAMETER Nssm
    nssm.exe, where it will stay.

.PARAMETER Programs
    The services: daemon, and any of gateway, monitor, metrics, archive, nats.

.EXAMPLE
    .\mt4pump-service.ps1 -Python C:\Python313\python.exe -Package .\mt4pump-1.0-py3-none-any.whl -Nssm C:\nssm\nssm.exe

.EXAMPLE
    .\mt4pump-service.ps1 -Python C:\Python313\python.exe -Nssm C:\nssm\nssm.exe -Programs daemon, gateway, metrics
#>
param(
    [Parameter(Mandatory = $true)][string] $Python,
    [Parameter(Mandatory = $true)][string] $Nssm,
    [string] $Package = '',
    [string] $Constraints = '',
    [string] $Environment = (Join-Path $env:ProgramFiles 'mt4pump'),
    [string] $Root = (Join-Path $env:ProgramData 'mt4pump'),
    [string[]] $Programs = @('daemon')
)

$ErrorActionPreference = 'Stop'

function Invoke-Checked {
    param(
        [string] $File,
        [string[]] $Arguments
    )

    & $File @Arguments
    if ($LASTEXITCODE -ne 0) {
        throw "$File $($Arguments -join ' ') ended with exit code $LASTEXITCODE"
    }
}

$identity = [Security.Principal.WindowsIdentity]::GetCurrent()
$principal = New-Object Security.Principal.WindowsPrincipal($identity)
if (-not $principal.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
    throw 'Services need an elevated prompt: start PowerShell by "Run as administrator".'
}

if (-not $Package) {
    $consumers = @($Programs | Where-Object { $_ -ne 'daemon' })
    $Package = if ($consumers) { 'mt4pump[consumers]' } else { 'mt4pump' }
}

if (-not $Constraints) {
    $bits = & $Python -c 'import struct; print(8 * struct.calcsize(chr(80)))'
    $file = if ($bits -eq '32') { 'constraints-win32.txt' } else { 'constraints.txt' }
    $Constraints = Join-Path (Split-Path $PSScriptRoot) $file
}

$ours = Join-Path $Environment 'Scripts\python.exe'
if (-not (Test-Path $ours)) {
    Invoke-Checked $Python @('-m', 'venv', $Environment)
}
Invoke-Checked $ours @('-m', 'pip', 'install', '--upgrade', '-c', $Constraints, $Package)
Invoke-Checked $ours (@('-m', 'mt4pump', 'service', 'install') + $Programs + @('--nssm', $Nssm, '--root', $Root))

Write-Host "Write the settings of each program into its file below $Root, then:"
if ($Programs -contains 'daemon') {
    Write-Host "  & '$ours' -m mt4pump check --config '$(Join-Path $Root 'daemon\mt4pump.toml')'"
}
Write-Host "  & '$ours' -m mt4pump service start --root '$Root'"
